//! The samplers as their specification has them: one number at a time, with no care for speed.

/// A key's words.
pub(crate) type Words = [u32; 2];

/// The Threefry-2x32 block.
pub(crate) fn block(key: Words, counter: Words) -> Words {
    let schedule = [key[0], key[1], key[0] ^ key[1] ^ 0x1BD1_1BDA];
    let [mut x, mut y] = counter;
    x = x.wrapping_add(schedule[0]);
    y = y.wrapping_add(schedule[1]);
    for group in 0..5 {
        let rotations = if group % 2 == 0 { [13, 15, 26, 6] } else { [17, 29, 16, 24] };
        for rotation in rotations {
            x = x.wrapping_add(y);
            y = y.rotate_left(rotation);
            y ^= x;
        }
        x = x.wrapping_add(schedule[(group + 1) % 3]);
        y = y.wrapping_add(schedule[(group + 2) % 3]).wrapping_add(group as u32 + 1);
    }
    [x, y]
}

/// The block of element `index`.
pub(crate) fn element(key: Words, index: u64) -> Words {
    block(key, [(index >> 32) as u32, index as u32])
}

pub(crate) fn bits32(key: Words, index: u64) -> u32 {
    let [first, second] = element(key, index);
    first ^ second
}

pub(crate) fn bits64(key: Words, index: u64) -> u64 {
    let [first, second] = element(key, index);
    (u64::from(first) << 32) | u64::from(second)
}

/// The nearest f32 with as many bits of mantissa as half precision has.
pub(crate) fn round_bf16(x: f32) -> f32 {
    half::bf16::from_f32(x).to_f32()
}

pub(crate) fn round_f16(x: f32) -> f32 {
    half::f16::from_f32(x).to_f32()
}

pub(crate) fn unit(key: Words, index: u64) -> f32 {
    f32::from_bits((bits32(key, index) >> 9) | 0x3F80_0000) - 1.0
}

pub(crate) fn unit64(key: Words, index: u64) -> f64 {
    f64::from_bits((bits64(key, index) >> 12) | 0x3FF0_0000_0000_0000) - 1.0
}

pub(crate) fn uniform(key: Words, index: u64, low: f32, high: f32) -> f32 {
    unit(key, index).mul_add(high - low, low).max(low)
}

pub(crate) fn uniform64(key: Words, index: u64, low: f64, high: f64) -> f64 {
    unit64(key, index).mul_add(high - low, low).max(low)
}

pub(crate) fn uniform_f16(key: Words, index: u64, low: f32, high: f32) -> f32 {
    let word = (bits32(key, index) as u16 >> 6) | 0x3C00;
    let unit = half::f16::from_bits(word).to_f32() - 1.0;
    let (low, high) = (round_f16(low), round_f16(high));
    round_f16(round_f16(unit * round_f16(high - low)) + low).max(low)
}

pub(crate) fn uniform_bf16(key: Words, index: u64, low: f32, high: f32) -> f32 {
    let word = (u16::from(bits32(key, index) as u8) >> 1) | 0x3F80;
    let unit = half::bf16::from_bits(word).to_f32() - 1.0;
    let (low, high) = (round_bf16(low), round_bf16(high));
    round_bf16(round_bf16(unit * round_bf16(high - low)) + low).max(low)
}

fn horner(coefficients: &[u32], x: f32) -> f32 {
    let mut sum = f32::from_bits(coefficients[0]);
    for coefficient in &coefficients[1..] {
        sum = sum.mul_add(x, f32::from_bits(*coefficient));
    }
    sum
}

/// Of positive numbers.
pub(crate) fn ln(x: f32) -> f32 {
    let bits = x.max(f32::MIN_POSITIVE).to_bits();
    let mut e = ((bits >> 23) as i32 - 127) as f32 + 1.0;
    let m = f32::from_bits((bits & 0x007F_FFFF) | 0x3F00_0000);
    let z = if m < f32::from_bits(0x3F35_04F3) {
        e -= 1.0;
        (m - 1.0) + m
    } else {
        m - 1.0
    };
    let z2 = z * z;
    let z3 = z2 * z;
    let a = horner(&[0x3D90_21BB, 0xBDEB_D1B8, 0x3DEF_251A], z);
    let b = horner(&[0xBDFE_5D4F, 0x3E11_E9BF, 0xBE2A_AE50], z);
    let c = horner(&[0x3E4C_CEAC, 0xBE7F_FFFC, 0x3EAA_AAAA], z);
    let y = a.mul_add(z3, b).mul_add(z3, c);
    let u = y.mul_add(z3, e * f32::from_bits(0xB95E_8083));
    let w = z2.mul_add(-0.5, z) + u;
    e.mul_add(f32::from_bits(0x3F31_8000), w)
}

/// Of numbers above -1.
pub(crate) fn log1p(x: f32) -> f32 {
    if x.abs() >= f32::from_bits(0x3ED4_13CD) {
        return ln(x + 1.0);
    }
    let p = horner(
        &[0x383D_E04B, 0x3EFF_40C5, 0x40D2_84FA, 0x41EF_4B9C, 0x4273_CC76, 0x4264_73AD, 0x41A0_5101],
        x,
    );
    let q = horner(
        &[0x3F80_0000, 0x4171_01AD, 0x42A6_185B, 0x435D_C32D, 0x439A_8CA3, 0x4358_6D8A, 0x4270_7982],
        x,
    );
    let square = x * x;
    x + square.mul_add(-0.5, (x * square) * (p / q))
}

pub(crate) fn erf_inv(x: f32) -> f32 {
    let w = -log1p(-(x * x));
    let p = if w < 5.0 {
        horner(
            &[
                0x32F1_6588,
                0x34B8_4B36,
                0xB66C_7357,
                0xB693_5AC1,
                0x3965_32DB,
                0xBAA4_5408,
                0xBB88_E4EF,
                0x3E7C_8F63,
                0x3FC0_2E2F,
            ],
            w - 2.5,
        )
    } else {
        horner(
            &[
                0xB951_F09B,
                0x38D3_B56B,
                0x3AB0_DC72,
                0xBB70_BDE7,
                0x3BBC_127B,
                0xBBF9_C5D7,
                0x3C1A_A57E,
                0x3F80_36DB,
                0x4035_4F7E,
            ],
            w.sqrt() - 3.0,
        )
    };
    x * p
}

pub(crate) fn normal(key: Words, index: u64) -> f32 {
    f32::from_bits(0x3FB5_04F3) * erf_inv(uniform(key, index, f32::from_bits(0xBF7F_FFFF), 1.0))
}

pub(crate) fn normal_bf16(key: Words, index: u64) -> f32 {
    let u = uniform_bf16(key, index, half::bf16::from_bits(0xBF7F).to_f32(), 1.0);
    round_bf16(round_bf16(std::f32::consts::SQRT_2) * round_bf16(erf_inv(u)))
}

pub(crate) fn normal_f16(key: Words, index: u64) -> f32 {
    let u = uniform_f16(key, index, half::f16::from_bits(0xBBFF).to_f32(), 1.0);
    round_f16(round_f16(std::f32::consts::SQRT_2) * round_f16(erf_inv(u)))
}

/// Below the point from which it is 1.
fn erf(x: f32) -> f32 {
    let square = x * x;
    let numerator = horner(&[0x3970_2D51, 0x3B5F_5DA2, 0x3D50_B6EB, 0x3E3D_A740, 0x3F90_6EBA], square);
    let denominator = horner(
        &[0xB3FD_3906, 0x37C5_88DF, 0x3A85_6D28, 0x3C66_87D4, 0x3DE3_4C21, 0x3EFE_B44A, 0x3F80_0000],
        square,
    );
    (x * numerator) / denominator
}

pub(crate) fn truncated_normal(key: Words, index: u64, lower: f32, upper: f32) -> f32 {
    let [from, to] = [lower, upper].map(|bound| erf(bound * f32::from_bits(0x3F35_04F3)));
    let x = f32::from_bits(0x3FB5_04F3) * erf_inv(uniform(key, index, from, to));
    x.max(lower.next_up()).min(upper.next_down())
}

fn horner64(coefficients: &[u64], x: f64) -> f64 {
    let mut sum = f64::from_bits(coefficients[0]);
    for coefficient in &coefficients[1..] {
        sum = sum.mul_add(x, f64::from_bits(*coefficient));
    }
    sum
}

fn log1p64(x: f64) -> f64 {
    if x.abs() >= f64::from_bits(0x3FDA_8279_99FC_EF32) {
        return (x + 1.0).ln();
    }
    #[rustfmt::skip]
    let p = horner64(&[
        0x3F07BC0962B395CA, 0x3FDFE818A0FE1A83, 0x401A509F46F4FA53, 0x403DE9738B8CB9C9, 0x404E798EB86C3351,
        0x404C8E7597479A10, 0x40340A202D99830A,
    ], x);
    #[rustfmt::skip]
    let q = horner64(&[
        0x3FF0000000000000, 0x402E20359E903E37, 0x4054C30B52213498, 0x406BB86590FCFB56, 0x407351945DC908A5,
        0x406B0DB13E48E066, 0x404E0F304466448E,
    ], x);
    let square = x * x;
    x + square.mul_add(-0.5, (x * square) * (p / q))
}

fn erf_inv64(x: f64) -> f64 {
    let w = -log1p64(-(x * x));
    #[rustfmt::skip]
    let p = if w < 6.25 {
        horner64(&[
            0xBBB135D2E746E627, 0xBC08DDF93324D327, 0x3C37B83EEF0B7C9F, 0x3C69BA72CD589B91, 0xBCA33689090A6B96,
            0x3C782E11898132E0, 0x3CFDE4ACFD9E26BA, 0xBD26D33EED66C487, 0xBD36F2167040D8E2, 0x3D872A22C2D77E20,
            0xBDAC8859C4E5C0AF, 0xBDCDC583D118A561, 0x3E120F47CCF46B3C, 0xBE31A9E38DC84D60, 0xBE5F36CD6D3D46A9,
            0x3E9C6B4F5D03B787, 0xBEB6E8A5434AE8A2, 0xBEED1D1F7B8736F6, 0x3F2879C2A212F024, 0xBF4845769484FCA8,
            0xBF78B6C33114F909, 0x3FCEBD80D9B13E28, 0x3FFA755E7C99AE86,
        ], w - 3.125)
    } else if w < 16.0 {
        horner64(&[
            0x3E23040F87DBD932, 0x3E785CBE52878635, 0xBE92777453DD3955, 0x3E5395ABCD554C6C, 0x3EB936388A3790AD,
            0xBED0D5DB812B5083, 0x3EC8860CD5D652F6, 0x3EEA29A0CACDFB23, 0xBF08CEF1F80281F2, 0x3F11E684D0B9188A,
            0x3EF932CD54C8A222, 0xBF37448A89EF8AA3, 0x3F4F3CC55AD40C25, 0xBF5BA924132F38B1, 0x3F6468EECA533CF8,
            0xBF6EBADABB891BBD, 0x3F75FFCFE5B76AFC, 0x3FF0158A6D641D39, 0x4008ABCC380D5A48,
        ], w.sqrt() - 3.25)
    } else {
        horner64(&[
            0xBDBDCEC3A7785389, 0xBDF18FEEC0E38727, 0x3E19E6BF2DDA45E3, 0xBE30468FB24E2F5F, 0x3E405AC6A8FBA182,
            0xBE50102E495FB9C0, 0x3E5F4C20E1334AF8, 0xBE722D220FDF9C3E, 0x3E8EBC8BB824CB54, 0xBEB0A8D40EA372CC,
            0x3ED2FBD29D093D2B, 0xBEF4A3497E1E0FAC, 0x3F13EBF4EB00938F, 0xBF2C2F36A8FC5D53, 0xBF222EA5DF04047C,
            0x3FF02A30D1FBA0DC, 0x4013664DDD1AD7FB,
        ], w.sqrt() - 5.0)
    };
    x * p
}

pub(crate) fn normal64(key: Words, index: u64) -> f64 {
    std::f64::consts::SQRT_2 * erf_inv64(uniform64(key, index, (-1f64).next_up(), 1.0))
}

pub(crate) fn bernoulli(key: Words, index: u64, p: f32) -> bool {
    unit(key, index) < p
}

pub(crate) fn bernoulli_high(key: Words, index: u64, count: u64, p: f32) -> bool {
    unit(key, count + index) * 2f32.powi(-23) < p - unit(key, index)
}

/// From an i32 range.
pub(crate) fn randint(key: Words, index: u64, low: i32, high: i32) -> i32 {
    let (high_key, low_key) = (element(key, 0), element(key, 1));
    let span = high.wrapping_sub(low) as u32;
    let m = (1u32 << 16) % span;
    let m = m.wrapping_mul(m) % span;
    let (h, l) = (bits32(high_key, index) % span, bits32(low_key, index) % span);
    low.wrapping_add((h.wrapping_mul(m).wrapping_add(l) % span) as i32)
}

/// From an i64 range.
pub(crate) fn randint64(key: Words, index: u64, low: i64, high: i64) -> i64 {
    let (high_key, low_key) = (element(key, 0), element(key, 1));
    let span = high.wrapping_sub(low) as u64;
    let m = (1u64 << 32) % span;
    let m = m.wrapping_mul(m) % span;
    let (h, l) = (bits64(high_key, index) % span, bits64(low_key, index) % span);
    low.wrapping_add((h.wrapping_mul(m).wrapping_add(l) % span) as i64)
}

pub(crate) fn permutation(key: Words, count: u64) -> Vec<u32> {
    let rounds = (3.0 * (count.max(1) as f64).ln() / f64::from(u32::MAX).ln()).ceil() as u32;
    let mut key = key;
    let mut order: Vec<u32> = (0..count as u32).collect();
    for _ in 0..rounds {
        let drawn = element(key, 1);
        key = element(key, 0);
        let mut pairs: Vec<(u32, u32)> = (0..count).map(|index| bits32(drawn, index)).zip(order).collect();
        pairs.sort_by_key(|(bits, _)| *bits);
        order = pairs.into_iter().map(|(_, element)| element).collect();
    }
    order
}

/// The lines of `values`, each of `length`, in random orders of their own: along the last axis.
pub(crate) fn shuffle(key: Words, values: Vec<u32>, length: usize) -> Vec<u32> {
    let count = values.len() as u64;
    let rounds = (3.0 * (count.max(1) as f64).ln() / f64::from(u32::MAX).ln()).ceil() as u32;
    let (mut key, mut values) = (key, values);
    for _ in 0..rounds {
        let drawn = element(key, 1);
        key = element(key, 0);
        let mut pairs: Vec<(u32, u32)> = (0..count).map(|index| bits32(drawn, index)).zip(values).collect();
        for line in pairs.chunks_mut(length) {
            line.sort_by_key(|(bits, _)| *bits);
        }
        values = pairs.into_iter().map(|(_, value)| value).collect();
    }
    values
}

/// The indices of the greatest of `scores`, in order; of equal ones the first.
pub(crate) fn greatest(scores: &[f32], count: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    order.sort_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]));
    order.truncate(count);
    order
}

pub(crate) fn gumbel(key: Words, index: u64) -> f32 {
    -ln(-ln(uniform(key, index, f32::MIN_POSITIVE, 1.0)))
}

pub(crate) fn gumbel_high(key: Words, index: u64, count: u64) -> f32 {
    let (h, l) = (unit(key, index), unit(key, count + index));
    let x = if h >= 0.5 { h } else { (h + 2f32.powi(-23) * l) + f32::MIN_POSITIVE };
    -ln(-log1p(-x))
}

pub(crate) fn exponential(key: Words, index: u64) -> f32 {
    -log1p(-unit(key, index))
}

pub(crate) fn laplace(key: Words, index: u64) -> f32 {
    let u = uniform(key, index, -1.0 + 2f32.powi(-24), 1.0);
    let sign = if u > 0.0 {
        1.0
    } else if u < 0.0 {
        -1.0
    } else {
        0.0
    };
    sign * log1p(-u.abs())
}

pub(crate) fn logistic(key: Words, index: u64) -> f32 {
    let u = uniform(key, index, f32::MIN_POSITIVE, 1.0);
    ln(u) - log1p(-u)
}

/// Word `index` of the `count` of the legacy scheme.
pub(crate) fn legacy_bits32(key: Words, index: u64, count: u64) -> u32 {
    let counters: Vec<u32> = (0..count as u32).chain((count % 2 == 1).then_some(0)).collect();
    let half = counters.len() / 2;
    let pair = index as usize % half;
    let words = block(key, [counters[pair], counters[half + pair]]);
    words[usize::from(index as usize >= half)]
}
