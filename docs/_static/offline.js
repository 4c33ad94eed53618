/* A page opened from a disk may not read other files, so the search shows titles without excerpts there. */
if (window.location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
