"""The named services of the Control Center, one module or package each."""
