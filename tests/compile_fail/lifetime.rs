use bridge_graph::StatefulModule;
use bridge_vars::Param;

#[derive(StatefulModule)]
struct View<'a> { kernel: &'a Param } //~ ERROR 'a: a module owns its parts, so it can not have a lifetime
//~ FIXED struct View { kernel: bridge_graph::Shared<Param> }

fn main() {}
