use bridge_graph::StatefulModule;
use bridge_vars::Param;

#[derive(StatefulModule)]
enum Head { Tied, Own { kernel: Param } } //~ ERROR Head: write a struct with one `Option` field for each variant
//~ FIXED struct Head { own: Option<Param> }

#[derive(StatefulModule)]
union Bits { a: u32, b: f32 } //~ ERROR Bits: a union can not be a module: write a struct
//~ FIXED struct Bits { a: u32, b: f32 }

#[derive(StatefulModule)]
struct Model {
    heads: Vec<Head>,
    bits: Option<Bits>,
}

fn main() {}
