import sys
from pathlib import Path

# zoo, speech and agreement are shared with the benchmarks, and are no package.
sys.path.insert(0, str(Path(__file__).parent))
