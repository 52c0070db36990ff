use crate::expected::{assert_sections, cases, check_bits, integer, key_of, load, shape};

#[test]
fn bits() {
    let file = load("bits");
    assert_sections(&file, &["bits", "big"]);
    let mut checked = 0;
    for case in cases(&file, &["bits", "big"]) {
        let key = key_of(&case["key"]);
        let count = shape(&case["out"]).iter().product();
        let bits: Vec<u64> = match integer(&case["width"]) {
            8 => key.bits_u8(count).into_iter().map(u64::from).collect(),
            16 => key.bits_u16(count).into_iter().map(u64::from).collect(),
            32 => key.bits_u32(count).into_iter().map(u64::from).collect(),
            64 => key.bits_u64(count),
            other => panic!("unknown width {other}"),
        };
        checked += check_bits(case, &bits);
    }
    assert_eq!(checked, 128_796);
}
