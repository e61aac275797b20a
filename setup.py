"""Builds sparsetrain._C with torch's extension builder: C++ always, CUDA where it can be."""

import os
import subprocess
from pathlib import Path

import torch
from setuptools import setup
from torch.utils.cpp_extension import (
    CUDA_HOME,
    BuildExtension,
    CppExtension,
    CUDAExtension,
    get_cxx_compiler,
)

ROOT = Path(__file__).parent.resolve()
os.chdir(ROOT)  # sources are named relative to the checkout, wherever pip was called


class Build(BuildExtension):
    """Keeps its objects in build/, so that every way to build here is incremental."""

    def initialize_options(self) -> None:
        super().initialize_options()
        self.build_temp = "build/temp"

    def build_extensions(self) -> None:
        """With --debug: assertions, also those of the standard library, and lines to step by."""
        if self.debug:
            for one in self.extensions:
                one.extra_compile_args["cxx"] += ["-O1", "-g", "-UNDEBUG", "-D_GLIBCXX_ASSERTIONS"]
        super().build_extensions()


def cuda_refusal() -> str | None:
    """Why CUDA sources are not built, or None. Never asks whether a GPU is present."""
    if torch.version.cuda is None:
        return "torch was built without CUDA"
    if CUDA_HOME is None:
        return "no CUDA toolkit was found"
    version = Path(CUDA_HOME, "include", "cuda.h")
    if not version.is_file():
        return f"the CUDA toolkit at {CUDA_HOME} has no headers"
    number = next(
        int(line.split()[2])
        for line in version.read_text(errors="replace").splitlines()
        if line.startswith("#define CUDA_VERSION ")
    )
    major = number // 1000
    if major != int(torch.version.cuda.split(".")[0]):
        return f"the CUDA toolkit is {major}.x, torch's is {torch.version.cuda}"
    for header in ("cusparse.h", "cublas_v2.h", "cusolverDn.h"):  # torch's own headers ask for all
        if not (version.parent / header).is_file():
            return f"the CUDA toolkit at {CUDA_HOME} has no {header}"
    return None


def sources(pattern: str) -> list[str]:
    """Files below csrc, relative to the checkout."""
    return [str(p.relative_to(ROOT)) for p in sorted((ROOT / "csrc").rglob(pattern))]


def openmp() -> list[str]:
    """Threads only of torch's own runtime: clang would bring a second one.

    The two disagree on how many threads there are, and scratch memory has as many parts. Without,
    each operator runs in one thread.
    """
    command = [get_cxx_compiler(), "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    return [] if "clang" in said.stdout else ["-fopenmp"]


def extension() -> CppExtension:
    cuda = sources("torch/cuda/*.cpp") + sources("*.cu")
    plain = [name for name in sources("*.cpp") if name not in cuda]
    cxx = ["-std=c++20", "-O3", "-ffp-contract=off", "-fvisibility=hidden", "-Wall", *openmp()]
    refusal = cuda_refusal()
    if refusal:
        print(f"sparsetrain: building for the CPU only: {refusal}")
        return CppExtension("sparsetrain._C", plain, extra_compile_args={"cxx": cxx})
    if not torch.cuda.is_available():  # then torch cannot build for the GPUs that are here
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", "9.0")
    archs = os.environ.get("TORCH_CUDA_ARCH_LIST", "of the GPUs here")
    print(f"sparsetrain: building for the CPU and for CUDA ({archs})")
    # A register that is spilled is a mistake here, and so is an array that is no register.
    ptxas = "-Xptxas=-warn-spills,-warn-lmem-usage,-Werror"
    nvcc = ["-std=c++20", "-O3", "--fmad=false", "-lineinfo", ptxas]
    return CUDAExtension(
        "sparsetrain._C",
        plain + cuda,
        libraries=["cusparse"],  # torch's own is loaded by then, under the same name
        extra_compile_args={"cxx": cxx, "nvcc": nvcc},
    )


setup(ext_modules=[extension()], cmdclass={"build_ext": Build})
