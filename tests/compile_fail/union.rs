use bridge_graph::StatefulModule;

#[derive(StatefulModule)]
union Bits { a: u32, b: f32 } //~ ERROR Bits: a union can not be a module: write a struct or an enum
//~ FIXED enum Bits { A(u32), B(f32) }

#[derive(StatefulModule)]
struct Model {
    bits: Option<Bits>,
}

fn main() {}
