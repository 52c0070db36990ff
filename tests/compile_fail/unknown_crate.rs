use bridge_graph::StatefulModule;

#[derive(StatefulModule)]
#[module(crate = "::bridge_grap")] //~ ERROR "::bridge_grap": `bridge_grap`
//~ FIXED #[module(crate = "::bridge_graph")]
struct Net;

fn main() {}
