"""How the tests start their JVMs."""

# A JVM that lives for minutes on tiny tables spends its time compiling: the quick compiler alone is faster.
QUICK_JVM = "-XX:TieredStopAtLevel=1"
