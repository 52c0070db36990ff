use bridge_graph::{StatefulModule, split};

struct Plain;
//~ FIXED #[derive(StatefulModule)] struct Plain;

fn main() {
    let plain = Plain;
    let _boxed: Box<dyn StatefulModule> = Box::new(Plain); //~ ERROR Box::new(Plain): `Plain` is not a stateful module
    let _halves = split(&plain); //~ ERROR &plain: `Plain` can not be a field of a module
}
