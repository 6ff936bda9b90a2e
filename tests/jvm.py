"""How the tests start the JVMs that live for a minute."""

# They spend their time compiling: the quick compiler alone is faster. (Not for the session of the whole run: there
# the optimising one pays, and the quick one's code cache of 48 MB is full after some minutes.)
QUICK_JVM = "-XX:TieredStopAtLevel=1"
