"""Builds the compiled module sparsetrain._C: always for the CPU, for CUDA if a toolkit is found.

Everything else about the package stands in pyproject.toml.
"""

import os
import shutil
import subprocess
from pathlib import Path

import torch
from setuptools import setup
from setuptools.command.build import build
from torch.utils.cpp_extension import (
    CUDA_HOME,
    BuildExtension,
    CppExtension,
    CUDAExtension,
    get_cxx_compiler,
)

ROOT = Path(__file__).parent.resolve()
os.chdir(ROOT)  # sources are named relative to this folder, wherever pip was called


class Build(build):
    """Builds from an empty folder, so that a wheel never ships a module that was removed since."""

    def run(self) -> None:
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


class BuildExt(BuildExtension):
    """Compiles the extension; object files stay in build/temp, so every build is incremental."""

    def initialize_options(self) -> None:
        super().initialize_options()
        self.build_temp = "build/temp"

    def build_extensions(self) -> None:
        """With --debug, adds debug lines, assertions and those of the standard library."""
        if self.debug:
            for extension in self.extensions:
                extension.extra_compile_args["cxx"] += [
                    "-O1", "-g", "-UNDEBUG", "-D_GLIBCXX_ASSERTIONS"
                ]  # fmt: skip
        super().build_extensions()


def why_not_cuda() -> str | None:
    """Returns why CUDA sources cannot be compiled, or None. A GPU is not needed to compile them."""
    if torch.version.cuda is None:
        return "torch was built without CUDA"
    if CUDA_HOME is None:
        return "no CUDA toolkit was found"
    header = Path(CUDA_HOME, "include", "cuda.h")
    if not header.is_file():
        return f"the CUDA toolkit at {CUDA_HOME} has no headers"
    version = next(
        int(line.split()[2])
        for line in header.read_text(errors="replace").splitlines()
        if line.startswith("#define CUDA_VERSION ")
    )
    major = version // 1000
    if major != int(torch.version.cuda.split(".")[0]):
        return f"the CUDA toolkit is {major}.x, torch's is {torch.version.cuda}"
    for name in ("cusparse.h", "cublas_v2.h", "cusolverDn.h"):  # torch's own headers include these
        if not (header.parent / name).is_file():
            return f"the CUDA toolkit at {CUDA_HOME} has no {name}"
    return None


def sources(pattern: str) -> list[str]:
    """Files below csrc that match a glob pattern, relative to the checkout."""
    return [str(p.relative_to(ROOT)) for p in sorted((ROOT / "csrc").rglob(pattern))]


def openmp_flags() -> list[str]:
    """GCC's flag for OpenMP; none for clang, with which each operator is single-threaded.

    clang would load a second OpenMP runtime beside torch's. The two count threads differently, but
    scratch memory is divided by torch's count.
    """
    command = [get_cxx_compiler(), "--version"]
    printed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return [] if "clang" in printed else ["-fopenmp"]


def extension() -> CppExtension:
    """The extension module, with CUDA sources if they can be compiled."""
    cuda = sources("torch/cuda/*.cpp") + sources("*.cu")
    cpu = [name for name in sources("*.cpp") if name not in cuda]
    # -ffp-contract=off and --fmad=false: backends must agree bit for bit, so no fused multiply-add
    # where the source has none.
    cxx = ["-std=c++20", "-O3", "-ffp-contract=off", "-fvisibility=hidden", "-Wall"]
    cxx += openmp_flags()
    reason = why_not_cuda()
    if reason:
        print(f"sparsetrain: building for the CPU only: {reason}")
        return CppExtension("sparsetrain._C", cpu, extra_compile_args={"cxx": cxx})
    if not torch.cuda.is_available():  # torch's default, the GPUs that are present, is empty
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", "9.0")
    architectures = os.environ.get("TORCH_CUDA_ARCH_LIST", "of the GPUs here")
    print(f"sparsetrain: building for the CPU and for CUDA ({architectures})")
    # A spilled register or an array in local memory is a performance bug: make it an error.
    ptxas = "-Xptxas=-warn-spills,-warn-lmem-usage,-Werror"
    nvcc = ["-std=c++20", "-O3", "--fmad=false", "-lineinfo", ptxas]
    return CUDAExtension(
        "sparsetrain._C",
        cpu + cuda,
        libraries=["cusparse"],  # resolves to the copy that torch has already loaded
        extra_compile_args={"cxx": cxx, "nvcc": nvcc},
    )


setup(ext_modules=[extension()], cmdclass={"build": Build, "build_ext": BuildExt})
