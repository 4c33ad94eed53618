"""A reader of Mermaid flowcharts, for the tests: what is in which group, and the arrows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass
class Group:
    """A subgraph: its title, and what is in it in order: groups and labels."""

    id: str
    title: str
    parts: list[Group | tuple[str, ...]] = field(default_factory=list)

    def tree(self) -> tuple[str, list]:
        """Return titles and labels without ids."""
        return self.title, [p.tree() if isinstance(p, Group) else p for p in self.parts]

    def groups(self) -> list[Group]:
        inner = [p for p in self.parts if isinstance(p, Group)]
        return [self, *(g for group in inner for g in group.groups())]


@dataclass
class Flowchart:
    """The outermost level as a group, the label lines of each node, and the arrows."""

    whole: Group
    labels: dict[str, tuple[str, ...]]
    edges: list[tuple[str, str, str]]  # from, to, arrow

    def label_edges(self) -> set[tuple[str, str]]:
        """Return the solid arrows by the first lines of their nodes' labels."""
        return {
            (self.labels[a][0], self.labels[b][0])
            for a, b, arrow in self.edges
            if arrow == "-->" and a in self.labels and b in self.labels
        }


_SUBGRAPH = re.compile(r'subgraph (\w+)\["([^"]*)"\]')
_NODE = re.compile(r'(\w+)(?:\["([^"]*)"\]|\(\["([^"]*)"\]\)|\(\("([^"]*)"\)\))(?::::\w+)?')
_EDGE = re.compile(r'(\w+) (-->|-\.->|~~~)(?:\|"[^"]*"\|)? (\w+)')
_OTHER = re.compile(
    r"style |linkStyle |classDef |class |direction |flowchart (LR|RL|TB|TD|BT)$|%%{"
)


def read(text: str) -> Flowchart:
    """Read a chart; a line that is none of those that charts have fails the test."""
    chart = Flowchart(Group("", ""), {}, [])
    open_groups = [chart.whole]
    for line in text.splitlines():
        line = line.strip().rstrip(";")
        if not line or _OTHER.match(line):
            continue
        if line == "end":
            open_groups.pop()
        elif match := _SUBGRAPH.fullmatch(line):
            group = Group(match[1], " ".join(_plain(match[2])))
            open_groups[-1].parts.append(group)
            open_groups.append(group)
        elif match := _NODE.fullmatch(line):
            label = _plain(match[2] or match[3] or match[4] or "")
            chart.labels[match[1]] = label
            open_groups[-1].parts.append(label)
        elif match := _EDGE.fullmatch(line):
            chart.edges.append((match[1], match[3], match[2]))
        else:
            raise AssertionError(f"not a line of a chart: {line!r}")
    assert open_groups == [chart.whole]
    groups = {group.id for group in chart.whole.groups()}
    for start, end, _ in chart.edges:
        assert {start, end} <= groups | set(chart.labels), (start, end)
    return chart


def _plain(label: str) -> tuple[str, ...]:
    """Return a label's lines without HTML, with codes as their characters."""
    lines = (re.sub(r"<[^>]*>", "", line) for line in label.split("<br/>"))
    return tuple(re.sub(r"#(\d+);", lambda m: chr(int(m[1])), line) for line in lines)
