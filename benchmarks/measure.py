"""Everything that README claims, measured anew into results/: about ten minutes on two cores.

    python -m benchmarks.measure            # all of it, then README
    python -m benchmarks.measure 4 5        # the fifth and the sixth of the runs below

The machine should have nothing else to do.
"""

import subprocess
import sys
import time

from benchmarks import readme

PEERS = "torch,torch_channels_last,onnxruntime"
OURS = "deconvkit,deconvkit_channels_last"
LARGE = "dcgan,k4,unet,fcn8s"

# Each is a process of its own, which leaves its memory and its instruction set to nobody.
RUNS = (
    f"--op conv_transpose2d --providers {PEERS},{OURS}",
    f"--op conv_transpose2d --layers {LARGE} --memory reused --providers torch,torch_channels_last,deconvkit",
    f"--op conv2d --providers {PEERS},{OURS}",
    "--op conv2d --layers vgg --memory reused --providers torch,torch_channels_last,deconvkit",
    f"--op conv_transpose1d --providers {PEERS},{OURS}",
    f"--op conv_transpose2d,conv2d --layers {LARGE},vgg --dtype bfloat16 "
    f"--providers torch,torch_channels_last,{OURS}",
    "--op max_pool2d,max_unpool2d,sparse_kl --memory fresh,reused "
    f"--providers {PEERS},torch_compile,torch_compile_channels_last,{OURS}",
    "--op dcgan_generator --modes forward,both --memory fresh,reused "
    f"--providers torch,torch_channels_last,torch_folded,torch_folded_channels_last,{OURS},deconvkit_folded",
    f"--op conv_transpose2d,conv2d --layers {LARGE},vgg --isa avx2 --modes forward "
    "--providers torch,torch_channels_last,deconvkit",
)


def main(chosen: list[str]) -> None:
    """Run them and update README."""
    for number in map(int, chosen) if chosen else range(len(RUNS)):
        start = time.perf_counter()
        command = ["bench", *RUNS[number].split(), "--budget", "2", "--results", str(readme.RESULTS)]
        print(f"{number}: deconvkit {' '.join(command)}", flush=True)
        subprocess.run((sys.executable, "-m", "deconvkit", *command), check=True)
        print(f"{time.perf_counter() - start:.0f} s", flush=True)
    readme.update()


if __name__ == "__main__":
    main(sys.argv[1:])
