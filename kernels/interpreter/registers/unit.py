"""A generated kernel as clang compiles it for a SIMT processor: the headers of the CPU, the lanes of hardware."""

from __future__ import annotations

from collections.abc import Sequence

from ..frontend.signature import Argument, Signature
from ..frontend.translate import parts


def unit(signature: Signature, grid: Sequence[int], threadgroup: Sequence[int], registers: int) -> str:
    """Return the HIP text of a kernel that may use `registers` vector registers (0: as many as the compiler likes).

    The sizes of the launch are constants in it, since they matter little in a kernel's code.
    """
    prelude, header, kernel = parts(signature)
    threads = threadgroup[0] * threadgroup[1] * threadgroup[2]
    limits = [f"amdgpu_flat_work_group_size(32, {max(threads, 32)})"]
    limits += [f"amdgpu_num_vgpr({registers})"] if registers else []
    parameters = ", ".join(_parameter(a, slot) for slot, a in enumerate(signature.arguments))
    arguments = [f"*b{slot}" if a.by_reference else f"b{slot}" for slot, a in enumerate(signature.arguments)]
    for _, type_name, value in signature.attributes:
        arguments.append(f"metal::mtl_uint3({value})" if type_name == "uint3" else f"({type_name})({value})")
    template = f"<{', '.join(signature.template_arguments)}>" if signature.template_arguments else ""
    # Inlined, as a kernel's body is its function: otherwise its arguments would not be known to be apart.
    kernel = kernel.replace(f"void {signature.name}(", f"inline __attribute__((always_inline)) void {signature.name}(")
    groups = [-(-n // t) for n, t in zip(grid, threadgroup)]
    fields = {
        "threads_per_threadgroup": threadgroup,
        "dispatch_threads_per_threadgroup": threadgroup,
        "threadgroups_per_grid": groups,
        "threads_per_grid": grid,
    }
    lines = [
        "#define MTL_SIMT 1",
        "#pragma clang force_cuda_host_device begin",
        '#include "metal_stdlib"',
        prelude,
        "constexpr unsigned mtl_zero[3] = {0, 0, 0};",
        header,
        kernel,
        "#pragma clang force_cuda_host_device end",
        f'extern "C" __attribute__((global, {", ".join(limits)})) void mtl_entry({parameters}) {{',
        "  mtl_thread thread_{};",
        "  mtl_thread* t = &thread_;",
    ]
    for axis, letter in enumerate("xyz"):
        lines.append(f"  t->threadgroup_position[{axis}] = __builtin_amdgcn_workgroup_id_{letter}();")
        lines.append(f"  t->position_in_threadgroup[{axis}] = {_thread(axis, threadgroup)};")
        lines.append(
            f"  t->position_in_grid[{axis}] = t->threadgroup_position[{axis}] * {threadgroup[axis]} + "
            f"t->position_in_threadgroup[{axis}];"
        )
        lines += [f"  t->{name}[{axis}] = {values[axis]};" for name, values in fields.items()]
    lines += [
        "  t->index_in_threadgroup = __builtin_amdgcn_workitem_id_x();",
        "  t->lane = metal::mtl_lane();",
        "  t->simdgroup = __builtin_amdgcn_readfirstlane(t->index_in_threadgroup / 32);",
        f"  t->simdgroups_per_threadgroup = t->dispatch_simdgroups_per_threadgroup = {-(-threads // 32)};",
        f"  {signature.name}{template}({', '.join(arguments)});",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _parameter(a: Argument, slot: int) -> str:
    return f"{'' if a.role == 'output' else 'const '}{a.type}* __restrict__ b{slot}"


def _thread(axis: int, threadgroup: Sequence[int]) -> str:
    """Return a thread's position along an axis: threads are numbered along x, so that 32 neighbors are a simdgroup."""
    index = "__builtin_amdgcn_workitem_id_x()"
    if axis == 0:
        return index if threadgroup[1] * threadgroup[2] == 1 else f"{index} % {threadgroup[0]}"
    if axis == 1:
        return f"{index} / {threadgroup[0]} % {threadgroup[1]}"
    return f"{index} / {threadgroup[0] * threadgroup[1]}"
