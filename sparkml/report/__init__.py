"""The report: what a lake holds and how it came to be, as one HTML file that opens offline.

The page has general parts (funnel, rejects, steps) and, for each step that has a successful run, the sections that the
step's stage declares (`report.section`). Everything is read as that run left it.
"""
