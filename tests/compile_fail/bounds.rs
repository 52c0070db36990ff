use bridge_graph::{Field, StatefulModule};

#[derive(StatefulModule)]
#[module(bound = "T")] //~ ERROR "T": no bounds, such as "T: Field, U: Static"
//~ FIXED #[module(bound = "T: Field")]
struct Stack<T> {
    layers: Vec<T>,
}

#[derive(StatefulModule)]
#[module(bound = "T: Field")]
struct Pair<T> {
    #[module(bound = "T: Field")] //~ ERROR bound: the type has a `bound` for all of its fields: remove one
    //~ FIXED
    first: T,
    second: T,
}

#[derive(StatefulModule)]
#[module(bound = "T: Send + Sync")]
//~ FIXED #[module(bound = "T: Field")]
struct Unbound<T> {
    inner: T, //~ ERROR T: `T` can not be a field of a module
}

fn main() {}
