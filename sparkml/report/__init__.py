"""The report: what a lake holds and how it came to be, as one HTML file that opens offline."""
