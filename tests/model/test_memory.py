"""Loading holds the weights once: no second copy of them at any moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import pytest

from model.config import AdapterConfig, CodecConfig, Config, LMConfig, Quantization
from model.synthetic import write_bundle
from model.synthetic.t5 import T5Dims

from .. import backends

pytestmark = [pytest.mark.slow, pytest.mark.serial]

ROOT = Path(__file__).parents[2]

# VmHWM, not ru_maxrss: a child inherits the latter from its parent on Linux.
LOAD = """
import re, sys
from pathlib import Path
from model import InstructMusicGen
model = InstructMusicGen.from_pretrained(sys.argv[1], backend=sys.argv[2])
model.codec
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""

# On a CPU the reference widens dense 16-bit weights to float32 by design: it would need twice the file.
FAST = [name for name in backends.names() if name in ("native", "metal")]
CASES = [("reference", 4), *((name, bits) for name in FAST for bits in (4, 16))]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize(("backend", "bits"), CASES)
def test_a_full_layout_bundle_is_in_memory_once(tmp_path: Path, backend: str, bits: int) -> None:
    """Peak resident memory <= the file + 15 % + 300 MB (the interpreter, MLX, one tensor on its way)."""
    lm = LMConfig(dim=1024, heads=16, ffn=4096, layers=48 if bits == 4 else 16, card=2048, text_dim=64)
    config = Config(lm, AdapterConfig(lm.layers, 500), mx.float16, Quantization(4, 64) if bits == 4 else None)
    bundle = tmp_path / "bundle"
    write_bundle(bundle, config=config, codec=CodecConfig(n_filters=16), t5=T5Dims(64, 16, 4, 128, 2, 512))
    size = sum((bundle / name).stat().st_size for name in ("model.safetensors", "compression_state_dict.bin"))
    assert size > 500e6
    command = [sys.executable, "-c", LOAD, str(bundle), backend]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    peak = int(done.stdout) * 1024
    assert peak <= 1.15 * size + 300e6, f"{peak / 1e6:.0f} MB to load {size / 1e6:.0f} MB"
