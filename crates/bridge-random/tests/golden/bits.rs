use crate::expected::{assert_sections, bits_of, cases, check_bits, key_of, load};

#[test]
fn bits() {
    let file = load("bits");
    assert_sections(&file, &["bits", "big"]);
    let mut checked = 0;
    for case in cases(&file, &["bits", "big"]) {
        checked += check_bits(case, &bits_of(key_of(&case["key"]), case));
    }
    assert_eq!(checked, 128_796);
}
