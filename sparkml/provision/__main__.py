"""`python3 -m sparkml.provision [setup | lock [--upgrade] | jars]`."""

# This file alone must also parse on the old Pythons that a machine may call python3: it says what is missing,
# or hands over to a better interpreter. Everything that it imports may use today's syntax.
import os
import sys


def main() -> int:
    if sys.version_info < (3, 10) and "SPARKML_PROVISION_PYTHON" not in os.environ:
        return _hand_over()
    from sparkml.provision.setup import main as setup

    return setup(sys.argv[1:])


def _hand_over() -> int:
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        for name in ("python3.11", "python3.12", "python3.10"):
            path = os.path.join(folder, name)
            # A pyenv shim is there for versions that are switched off, too: only a run tells.
            if os.access(path, os.X_OK) and os.system("'" + path + "' -c 0 2>/dev/null") == 0:
                os.environ["SPARKML_PROVISION_PYTHON"] = path
                os.execv(path, [path, "-m", "sparkml.provision", *sys.argv[1:]])
    sys.stderr.write(
        "setup: Python 3.10, 3.11 or 3.12 is missing (everything runs on it; 3.11 is best): "
        "python3 is " + ".".join(map(str, sys.version_info[:3])) + "\n"
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
