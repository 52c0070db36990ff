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

/// Between -2 and 2.
pub(crate) fn truncated_normal(key: Words, index: u64) -> f32 {
    let bound = f32::from_bits(0x3F74_5A18);
    let x = f32::from_bits(0x3FB5_04F3) * erf_inv(uniform(key, index, -bound, bound));
    x.max((-2f32).next_up()).min(2f32.next_down())
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
