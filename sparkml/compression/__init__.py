"""The stage `compress`: a float classifier -> int8, measured beside it."""
