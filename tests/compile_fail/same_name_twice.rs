use bridge_graph::StatefulModule;
use bridge_vars::Param;

#[derive(StatefulModule)]
struct Net {
    #[module(rename = "kernel")] //~ ERROR "kernel": the field `kernel` has the name `kernel` too: choose another
    //~ FIXED #[module(rename = "weight")]
    w: Param,
    kernel: Param,
}

fn main() {}
