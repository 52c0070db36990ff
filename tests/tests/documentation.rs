//! Pages that say what JAX prints, against what it did print.
#![forbid(unsafe_code)]

use bridge_tests::golden::{fields, open, text};

const PAGE: &str = include_str!("../../docs/same-numbers-as-jax.md");

/// The text of the first block in a language. What a doc test of the page itself prints is asserted there.
fn block(language: &str) -> &'static str {
    let fence = format!("```{language}\n");
    let (_, rest) = PAGE.split_once(&fence).unwrap_or_default();
    rest.split_once("```").map(|(block, _)| block).unwrap_or_default()
}

#[test]
fn the_lines_of_jax_print_what_the_page_says() {
    let file = open("jax/documentation");
    let same = &file["same_numbers"];
    assert_eq!(fields(same).count(), 2);
    assert_eq!(block("python"), text(&same["lines"]));
    assert_eq!(block("text"), text(&same["printed"]));
    assert!(block("rust").contains(text(&same["printed"]).trim_end()));
}
