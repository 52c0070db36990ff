use bridge_graph::{StatefulModule, split};

#[derive(StatefulModule)]
struct Stack<T>(Vec<T>);

struct Plain;
//~ FIXED #[derive(StatefulModule)] struct Plain;

fn main() {
    let stack = Stack(vec![Plain]);
    let _halves = split(&stack); //~ ERROR &stack: `Plain` can not be a field of a module
}
