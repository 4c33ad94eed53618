"""Reports: what a model learned and where it errs, as a page to look at."""

from lucid.report._report import write_report as write_report
from lucid.report._report import write_run_report as write_run_report
