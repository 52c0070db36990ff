//! `#[derive(StatefulModule)]`.
//!
//! Users take it from `bridge_graph` or from the facade `candle_bridge`, which re-export it beside the trait.
//!
//! A type goes through three steps: parse (`attribute`, `parse`), check (`check`) and expand (`bounds`,
//! `expand`). Each step notes its errors and goes on, so that all of a type's errors come at once.
#![forbid(unsafe_code)]

mod attribute;
mod bounds;
mod check;
mod errors;
mod expand;
mod parse;

use proc_macro::TokenStream;

// The docs' example needs the crates above this one; `bridge-tests` runs it.
#[cfg_attr(not(doctest), doc = include_str!("../docs/stateful_module.md"))]
#[proc_macro_derive(StatefulModule, attributes(module))]
pub fn stateful_module(input: TokenStream) -> TokenStream {
    expand::derive(input.into(), "::bridge_graph").into()
}

#[cfg_attr(not(doctest), doc = include_str!("../docs/stateful_module.md"))]
#[proc_macro_derive(StatefulModuleOfFacade, attributes(module))]
pub fn stateful_module_of_facade(input: TokenStream) -> TokenStream {
    expand::derive(input.into(), "::candle_bridge::graph").into()
}
