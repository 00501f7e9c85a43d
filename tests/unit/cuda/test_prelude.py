"""Every function of the prelude becomes the instructions it stands for, and exists in the emulation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgec.targets.cuda import emulation, nvrtc
from edgec.targets.cuda.emulation import emulated_library

PRELUDE = Path(emulation.__file__).with_name("prelude.cuh").read_text()
# As TVM writes it: casts, vectors of a few words, arrays aligned to 64 bytes.
EVERY = """
extern "C" __global__ void __launch_bounds__(128) every(half* __restrict__ A_ptr, float* __restrict__ C_ptr,
    signed char* __restrict__ D_ptr, int64_t* __restrict__ E_ptr, bool* __restrict__ F_ptr, double* __restrict__ G_ptr,
    ushort* __restrict__ H_ptr, uchar* __restrict__ J_ptr, uint64_t* __restrict__ K_ptr, int* L_ptr, uint* M_ptr) {
  extern __shared__ __align__(64) uchar buf_dyn_shmem_ptr[];
  __shared__ alignas(64) half S_ptr[1024];
  alignas(64) half l_ptr[8];
  alignas(64) float acc[4];
  alignas(64) int iacc[4];
  alignas(64) uint a[4];
  alignas(64) uint b[4];
  ec_let_next(); ec_wait_previous();
  int t = ((int)threadIdx.x);
  ec_load16(l_ptr, A_ptr + t * 8); ec_store16(S_ptr + t * 8, l_ptr);
  ec_load8(l_ptr, A_ptr + t * 4); ec_store8(S_ptr + t * 4, l_ptr);
  ec_load4(l_ptr, A_ptr + t * 2); ec_store4(S_ptr + t * 2, l_ptr);
  ec_load16_nc(acc, C_ptr + t * 4); ec_load8_nc(a, C_ptr); ec_load4_nc(a + 2, C_ptr + 3);
  ec_cp16(S_ptr + t * 8, A_ptr + t * 8); ec_cp16_if(S_ptr + t * 8, A_ptr + t * 8, t < 4);
  ec_cp8_if(S_ptr + t * 4, A_ptr + t * 4, t < 4); ec_cp4_if(buf_dyn_shmem_ptr + t * 4, A_ptr + t * 4, t < 4);
  ec_cp8_first(S_ptr + t * 4, A_ptr + t * 4, t < 4 ? 6 : 0);
  ec_cp_commit(); ec_cp_wait3(); ec_cp_wait2(); ec_cp_wait1(); ec_cp_wait0();
  __syncthreads();
  ec_ldmatrix4(a, S_ptr + t * 8); ec_ldmatrix2(b, S_ptr + t * 8);
  ec_mma_f16((&(acc[0])), (&(a[0])), (&(b[0])));
  ec_ldmatrix4_t(a, S_ptr + t * 8); ec_ldmatrix2_t(b, S_ptr + t * 8);
  ec_mma_tf32(acc, a, b);
  for (int i = 0; i < 4; ++i) { iacc[i] = 0; }
  ec_mma_s8(iacc, a, b); ec_mma_u8s8(iacc, a, b);
  M_ptr[t] = ec_tf32(acc[0]);
  C_ptr[t] = ((((ec_shfl_xor_f32(acc[1], 1) + ec_shfl_f32(acc[2], 3)) + ec_warp_sum(acc[3])) + ec_warp_max(acc[0]))
    + ec_exp2(acc[1])) + ec_rcp(acc[2]);
  ec_syncwarp();
  L_ptr[t] = ec_shfl_xor_i32(iacc[0], 2) + ec_shfl_i32(iacc[1], 2)
    + ec_dp4a_s8(iacc[2], 3, 4) + ec_dp4a_u8s8(iacc[3], 4, 5);
  M_ptr[t + 128] = ec_half2_pack(acc[0], acc[1]);
  C_ptr[t + 128] = ec_half2_lo(M_ptr[t]) + ec_half2_hi(M_ptr[t]);
  C_ptr[t + 256] = fmaf(acc[0], acc[1], acc[2]) + rsqrtf(acc[3]) + __int_as_float(iacc[3])
    + CUDART_INF_F + CUDART_NAN_F;
  L_ptr[t + 128] = __float_as_int(acc[0]) + __float_as_uint(acc[1]) + __clz(iacc[0]) + ec_bits<int>(ec_same(acc[1]));
  if (t == 0 && ec_arrive_last((&(M_ptr[0])), (uint)5)) { L_ptr[3] = 4; }
  D_ptr[t] = min(((signed char)E_ptr[t]), (signed char)5) + ec_as_int8(J_ptr[t]);
  J_ptr[t] = max(J_ptr[t], ((uchar)(uint)A_ptr[t])) + ec_as_uint8(D_ptr[t]);
  H_ptr[t] = ec_as_uint16((short)t); ((short*)H_ptr)[t + 1] = ec_as_int16(H_ptr[t]);
  K_ptr[t] = ec_as_uint64(E_ptr[t]);
  E_ptr[t] = ec_as_int64(K_ptr[t]) + max(E_ptr[t], (int64_t)7) + ec_as_int32(a[1]) + ec_as_uint32(iacc[0]);
  G_ptr[t] = (((double)A_ptr[t]) * 2.500000000000000) + exp(G_ptr[t]) + CUDART_INF + CUDART_NAN;
  F_ptr[t] = (A_ptr[t] < S_ptr[t]) && (A_ptr[t] >= S_ptr[t]) || (A_ptr[t] != S_ptr[t]) || (A_ptr[t] == S_ptr[t])
    || (A_ptr[t] > S_ptr[t]) || (A_ptr[t] <= S_ptr[t]);
  half condval;
  if (F_ptr[t]) { condval = A_ptr[t]; } else { condval = __float2half_rn(CUDART_NAN_F); }
  A_ptr[t] = (max(S_ptr[t], __float2half_rn(0x0p+0f/*0.000000e+00*/)) + (__float2half_rn(0x1.8p+0f) * ((half)C_ptr[t])))
    - min(A_ptr[t], condval) / -(half)0.0f + (half)G_ptr[t] + (half)E_ptr[t] + (half)(uchar)3
    + (half)__half2float(A_ptr[t]);
  A_ptr[t] += (half)0.5; A_ptr[t] -= l_ptr[0]; A_ptr[t] *= l_ptr[1]; A_ptr[t] /= l_ptr[2];
  E_ptr[t] += (int64_t)A_ptr[t]; L_ptr[t] += (int)A_ptr[t];
  D_ptr[t] += (signed char)A_ptr[t]; F_ptr[t] = (bool)A_ptr[t];
    half v_ = A_ptr[t];
  H_ptr[t] = ((*(ushort *)(&(v_))) >> (ushort)3);
    float4 v__1 = *(float4*)(C_ptr + (t * 4));
    float4 v__2 = make_float4(0x1p+0f, 0x1p+0f, 0x1p+0f, 0x1p+0f);
  *(float4*)(C_ptr + (t * 4)) = make_float4((v__1.x+v__2.x), (v__1.y+v__2.y), (v__1.z+v__2.z), (v__1.w+v__2.w));
  *(uint4*)(A_ptr + (t * 8)) = *(uint4*)(A_ptr + (t * 8 + 8));
  *(int4*)(L_ptr + 4 * t) = make_int4(1, 2, 3, 4); *(float2*)(C_ptr + 2 * t) = make_float2(1.0f, 2.0f);
}
"""


def functions() -> set[str]:
    names = set(re.findall(r"EC_DEVICE [\w ]*?\*?(ec_\w+)\(", PRELUDE))
    names |= set(re.findall(r"^EC_(?:LDMATRIX\d|MMA)\((ec_\w+),", PRELUDE, re.M))
    return names | {
        f"ec_as_{kind}{width}" for kind in ("int", "uint") for width in re.findall(r"^EC_AS\((\d+)\)", PRELUDE, re.M)
    }


def test_the_kernel_uses_every_function() -> None:
    internal = {"ec_max", "ec_min", "ec_shared_address"}
    used = set(re.findall(r"\bec_\w+", EVERY))
    assert len(functions()) > 45
    assert functions() - internal - used == set()


def test_the_emulation_has_every_function() -> None:
    assert emulated_library(EVERY)


def code(arch: str, kind: nvrtc.Kind) -> bytes:
    if not any(arch in known for _, known in nvrtc._nvrtc()):
        pytest.skip(f"no NVRTC for {arch}: pip install nvidia-cuda-nvrtc")
    return nvrtc.compiled(PRELUDE + EVERY, arch, kind).data


@pytest.mark.parametrize("arch", ["sm_80", "sm_87", "sm_90", "sm_110"])
def test_every_function_compiles(arch: str) -> None:
    assert code(arch, "cubin").startswith(b"\x7fELF")


def test_functions_become_their_instructions() -> None:
    text = code("sm_87", "ptx").decode()
    wanted = """mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32
        mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32
        ldmatrix.sync.aligned.m8n8.x4.shared.b16 ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16
        ldmatrix.sync.aligned.m8n8.x2.shared.b16 ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16
        cp.async.cg.shared.global cp.async.ca.shared.global cp.async.commit_group cp.async.wait_group
        dp4a.s32.s32 dp4a.u32.s32 cvt.rna.tf32.f32 cvt.rn.f16x2.f32 cvt.rn.f16.f64 cvt.f32.f16 ex2.approx.ftz.f32
        rcp.approx.ftz.f32 shfl.sync.bfly.b32 shfl.sync.idx.b32 bar.warp.sync ld.global.nc.v4.u32
        st.shared.v4.u32""".split()
    assert [name for name in wanted if name not in text] == []
    assert len(re.findall(r"fma\.rn\.f32", text)) == 1, "fmaf is the only fused multiply-add"
    assert "griddepcontrol" not in text


def test_kernels_of_newer_devices_wait_before_they_touch_memory() -> None:
    text = code("sm_90", "ptx").decode()
    assert text.count("griddepcontrol.launch_dependents") == text.count("griddepcontrol.wait") == 1
    begin, wait = text.index("griddepcontrol.launch_dependents"), text.index("griddepcontrol.wait")
    accesses = [found.start() for found in re.finditer(r"\b(ld|st|atom|red|cp\.async\.c[ag])\.(?!param)", text)]
    assert begin < wait < min(accesses)
    assert "ld.global.nc" not in text, "what a kernel reads may change until it has waited"
