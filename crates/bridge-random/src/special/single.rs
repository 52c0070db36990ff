//! `ln`, `log1p`, `erf` and `erf_inv` of `f32`. Coefficients are bit patterns, so that none is rounded on the way here.

/// The polynomial with these coefficients, the leading one first, by Horner's rule with fused multiply-adds.
#[inline(always)]
fn polynomial<const N: usize>(coefficients: [u32; N], x: f32) -> f32 {
    coefficients
        .into_iter()
        .map(f32::from_bits)
        .reduce(|sum, coefficient| sum.mul_add(x, coefficient))
        .unwrap_or(0.0)
}

/// The natural logarithm, after Cephes' `logf`.
#[inline(always)]
pub(crate) fn ln(x: f32) -> f32 {
    const SQRT_HALF: u32 = 0x3F35_04F3;
    // ln 2, as a short number (for an exact product) and what it leaves.
    const LN_2_HIGH: u32 = 0x3F31_8000;
    const LN_2_LOW: u32 = 0xB95E_8083;

    let bits = if x > f32::MIN_POSITIVE { x } else { f32::MIN_POSITIVE }.to_bits();
    let exponent = ((bits >> 23) as i32 - 127) as f32 + 1.0;
    let mantissa = f32::from_bits(bits & 0x007F_FFFF | 0x3F00_0000);
    let below = mantissa < f32::from_bits(SQRT_HALF);
    let exponent = if below { exponent - 1.0 } else { exponent };
    let z = if below { (mantissa - 1.0) + mantissa } else { mantissa - 1.0 };

    let square = z * z;
    let cube = square * z;
    let a = polynomial([0x3D90_21BB, 0xBDEB_D1B8, 0x3DEF_251A], z);
    let b = polynomial([0xBDFE_5D4F, 0x3E11_E9BF, 0xBE2A_AE50], z);
    let c = polynomial([0x3E4C_CEAC, 0xBE7F_FFFC, 0x3EAA_AAAA], z);
    let y = a.mul_add(cube, b).mul_add(cube, c);
    let low = y.mul_add(cube, exponent * f32::from_bits(LN_2_LOW));
    let rest = square.mul_add(-0.5, z) + low;
    let ln = exponent.mul_add(f32::from_bits(LN_2_HIGH), rest);

    if x == 0.0 {
        f32::NEG_INFINITY
    } else if x == f32::INFINITY {
        f32::INFINITY
    } else if x > 0.0 {
        ln
    } else {
        f32::NAN
    }
}

/// `ln(1 + x)`: a rational approximation near 0, [`ln`] elsewhere.
#[inline(always)]
pub(crate) fn log1p(x: f32) -> f32 {
    const FAR: u32 = 0x3ED4_13CD;
    #[rustfmt::skip]
    const NUMERATOR: [u32; 7] = [
        0x383D_E04B, 0x3EFF_40C5, 0x40D2_84FA, 0x41EF_4B9C, 0x4273_CC76, 0x4264_73AD, 0x41A0_5101,
    ];
    #[rustfmt::skip]
    const DENOMINATOR: [u32; 7] = [
        0x3F80_0000, 0x4171_01AD, 0x42A6_185B, 0x435D_C32D, 0x439A_8CA3, 0x4358_6D8A, 0x4270_7982,
    ];

    let square = x * x;
    let rest = (x * square) * (polynomial(NUMERATOR, x) / polynomial(DENOMINATOR, x));
    let near = x + square.mul_add(-0.5, rest);
    let far = ln(x + 1.0);
    if x.abs() >= f32::from_bits(FAR) { far } else { near }
}

/// Where the error function reaches ±1 that XLA fuses into other code, as in truncated normal numbers.
///
/// By itself, it does so at `0x407547CB`, and is the same otherwise.
pub(crate) const FUSED_ERF_SATURATION: f32 = f32::from_bits(0x406F_9C68);

/// The error function, ±1 from `saturation` on.
#[inline(always)]
pub(crate) fn erf(x: f32, saturation: f32) -> f32 {
    #[rustfmt::skip]
    const NUMERATOR: [u32; 5] = [0x3970_2D51, 0x3B5F_5DA2, 0x3D50_B6EB, 0x3E3D_A740, 0x3F90_6EBA];
    #[rustfmt::skip]
    const DENOMINATOR: [u32; 7] = [
        0xB3FD_3906, 0x37C5_88DF, 0x3A85_6D28, 0x3C66_87D4, 0x3DE3_4C21, 0x3EFE_B44A, 0x3F80_0000,
    ];

    if x.abs() >= saturation {
        return 1f32.copysign(x);
    }
    let square = x * x;
    (x * polynomial(NUMERATOR, square)) / polynomial(DENOMINATOR, square)
}

/// The inverse of the error function, after Giles, "Approximating the erfinv function" (2012).
#[inline(always)]
pub(crate) fn erf_inv(x: f32) -> f32 {
    #[rustfmt::skip]
    const CENTER: [u32; 9] = [
        0x32F1_6588, 0x34B8_4B36, 0xB66C_7357, 0xB693_5AC1, 0x3965_32DB, 0xBAA4_5408, 0xBB88_E4EF, 0x3E7C_8F63,
        0x3FC0_2E2F,
    ];
    #[rustfmt::skip]
    const TAIL: [u32; 9] = [
        0xB951_F09B, 0x38D3_B56B, 0x3AB0_DC72, 0xBB70_BDE7, 0x3BBC_127B, 0xBBF9_C5D7, 0x3C1A_A57E, 0x3F80_36DB,
        0x4035_4F7E,
    ];

    let w = -log1p(-(x * x));
    let center = polynomial(CENTER, w - 2.5);
    let tail = polynomial(TAIL, w.sqrt() - 3.0);
    let slope = if w < 5.0 { center } else { tail };
    x * if x.abs() == 1.0 { f32::INFINITY } else { slope }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::*;

    fn floats(value: &Value) -> Vec<f32> {
        let bits = value["u32"].as_array().unwrap().iter();
        bits.map(|bits| f32::from_bits(bits.as_u64().unwrap() as u32)).collect()
    }

    #[test]
    fn agree_with_xla() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/jax/normal.json");
        let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let mut checked = 0;
        for case in golden["functions"].as_array().unwrap() {
            let name = case["fn"].as_str().unwrap();
            let function = match name {
                "erf_inv" => erf_inv,
                "log1p" => log1p,
                "log" => ln,
                // The points come from the vector kernel.
                "erf" => |x| erf(x, f32::from_bits(0x4075_47CB)),
                _ => panic!("unknown function {name}"),
            };
            let (xs, ys) = (floats(&case["x"]), floats(&case["y"]));
            assert_eq!(xs.len(), ys.len());
            for (x, y) in xs.into_iter().zip(ys) {
                assert_eq!(function(x).to_bits(), y.to_bits(), "{name}({x}) = {y}");
                checked += 1;
            }
        }
        assert_eq!(checked, 111);
    }

    #[test]
    fn reach_their_limits() {
        assert_eq!(ln(0.0), f32::NEG_INFINITY);
        assert_eq!(ln(f32::INFINITY), f32::INFINITY);
        assert!(ln(-1.0).is_nan() && ln(f32::NAN).is_nan());
        assert_eq!(erf(f32::INFINITY, FUSED_ERF_SATURATION), 1.0);
        assert_eq!(erf(f32::NEG_INFINITY, FUSED_ERF_SATURATION), -1.0);
        assert_eq!(erf_inv(1.0), f32::INFINITY);
        assert_eq!(erf_inv(-1.0), f32::NEG_INFINITY);
    }
}
