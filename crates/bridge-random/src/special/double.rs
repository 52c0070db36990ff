//! `log1p` and `erf_inv` of `f64`. Coefficients are bit patterns, so that none is rounded on the way here.
//!
//! Unlike those of `f32`, these call the C library's logarithm: the bits are XLA's where that rounds as the GNU C library's
//! does.

/// The polynomial with these coefficients, the leading one first, by Horner's rule with fused multiply-adds.
#[inline(always)]
fn polynomial<const N: usize>(coefficients: [u64; N], x: f64) -> f64 {
    coefficients
        .into_iter()
        .map(f64::from_bits)
        .reduce(|sum, coefficient| sum.mul_add(x, coefficient))
        .unwrap_or(0.0)
}

/// `ln(1 + x)`: a rational approximation near 0, the logarithm elsewhere.
#[inline(always)]
pub(crate) fn log1p(x: f64) -> f64 {
    const FAR: u64 = 0x3FDA_8279_99FC_EF32;
    #[rustfmt::skip]
    const NUMERATOR: [u64; 7] = [
        0x3F07_BC09_62B3_95CA, 0x3FDF_E818_A0FE_1A83, 0x401A_509F_46F4_FA53, 0x403D_E973_8B8C_B9C9,
        0x404E_798E_B86C_3351, 0x404C_8E75_9747_9A10, 0x4034_0A20_2D99_830A,
    ];
    #[rustfmt::skip]
    const DENOMINATOR: [u64; 7] = [
        0x3FF0_0000_0000_0000, 0x402E_2035_9E90_3E37, 0x4054_C30B_5221_3498, 0x406B_B865_90FC_FB56,
        0x4073_5194_5DC9_08A5, 0x406B_0DB1_3E48_E066, 0x404E_0F30_4466_448E,
    ];

    if x.abs() >= f64::from_bits(FAR) {
        return (x + 1.0).ln();
    }
    let square = x * x;
    let rest = (x * square) * (polynomial(NUMERATOR, x) / polynomial(DENOMINATOR, x));
    x + square.mul_add(-0.5, rest)
}

/// The inverse of the error function, after Giles, "Approximating the erfinv function" (2012).
#[inline(always)]
pub(crate) fn erf_inv(x: f64) -> f64 {
    #[rustfmt::skip]
    const CENTER: [u64; 23] = [
        0xBBB1_35D2_E746_E627, 0xBC08_DDF9_3324_D327, 0x3C37_B83E_EF0B_7C9F, 0x3C69_BA72_CD58_9B91,
        0xBCA3_3689_090A_6B96, 0x3C78_2E11_8981_32E0, 0x3CFD_E4AC_FD9E_26BA, 0xBD26_D33E_ED66_C487,
        0xBD36_F216_7040_D8E2, 0x3D87_2A22_C2D7_7E20, 0xBDAC_8859_C4E5_C0AF, 0xBDCD_C583_D118_A561,
        0x3E12_0F47_CCF4_6B3C, 0xBE31_A9E3_8DC8_4D60, 0xBE5F_36CD_6D3D_46A9, 0x3E9C_6B4F_5D03_B787,
        0xBEB6_E8A5_434A_E8A2, 0xBEED_1D1F_7B87_36F6, 0x3F28_79C2_A212_F024, 0xBF48_4576_9484_FCA8,
        0xBF78_B6C3_3114_F909, 0x3FCE_BD80_D9B1_3E28, 0x3FFA_755E_7C99_AE86,
    ];
    #[rustfmt::skip]
    const MIDDLE: [u64; 19] = [
        0x3E23_040F_87DB_D932, 0x3E78_5CBE_5287_8635, 0xBE92_7774_53DD_3955, 0x3E53_95AB_CD55_4C6C,
        0x3EB9_3638_8A37_90AD, 0xBED0_D5DB_812B_5083, 0x3EC8_860C_D5D6_52F6, 0x3EEA_29A0_CACD_FB23,
        0xBF08_CEF1_F802_81F2, 0x3F11_E684_D0B9_188A, 0x3EF9_32CD_54C8_A222, 0xBF37_448A_89EF_8AA3,
        0x3F4F_3CC5_5AD4_0C25, 0xBF5B_A924_132F_38B1, 0x3F64_68EE_CA53_3CF8, 0xBF6E_BADA_BB89_1BBD,
        0x3F75_FFCF_E5B7_6AFC, 0x3FF0_158A_6D64_1D39, 0x4008_ABCC_380D_5A48,
    ];
    #[rustfmt::skip]
    const TAIL: [u64; 17] = [
        0xBDBD_CEC3_A778_5389, 0xBDF1_8FEE_C0E3_8727, 0x3E19_E6BF_2DDA_45E3, 0xBE30_468F_B24E_2F5F,
        0x3E40_5AC6_A8FB_A182, 0xBE50_102E_495F_B9C0, 0x3E5F_4C20_E133_4AF8, 0xBE72_2D22_0FDF_9C3E,
        0x3E8E_BC8B_B824_CB54, 0xBEB0_A8D4_0EA3_72CC, 0x3ED2_FBD2_9D09_3D2B, 0xBEF4_A349_7E1E_0FAC,
        0x3F13_EBF4_EB00_938F, 0xBF2C_2F36_A8FC_5D53, 0xBF22_2EA5_DF04_047C, 0x3FF0_2A30_D1FB_A0DC,
        0x4013_664D_DD1A_D7FB,
    ];

    if x.abs() == 1.0 {
        return x * f64::INFINITY;
    }
    let w = -log1p(-(x * x));
    let slope = if w < 6.25 {
        polynomial(CENTER, w - 3.125)
    } else if w < 16.0 {
        polynomial(MIDDLE, w.sqrt() - 3.25)
    } else {
        polynomial(TAIL, w.sqrt() - 5.0)
    };
    x * slope
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::special::c_library::erf;

    #[test]
    fn erf_inv_inverts_erf() {
        // Some in each range of the approximation (`w` is 6.25 at 2.2, and 16 at 3.8), and the limit.
        for x in [-4.1f64, -3.1, -0.5, 0.0, 1e-9, 0.7, 2.5, 3.9] {
            // Near ±1, the rounding of erf(x) is worth this much of x.
            let tolerance = f64::EPSILON * (2.0 + (x * x).exp());
            assert!((erf_inv(erf(x)) - x).abs() <= tolerance, "{x}");
        }
        assert_eq!(erf_inv(1.0), f64::INFINITY);
        assert_eq!(erf_inv(-1.0), f64::NEG_INFINITY);
    }
}
