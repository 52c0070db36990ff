use bridge_graph::StatefulModule;

#[derive(StatefulModule)]
#[module(static)] //~ ERROR static: `static` belongs on a field, not on the type
//~ FIXED
struct Net<
    #[module(skip)] //~ ERROR #[module(skip)]: belongs on the type or on one of its fields
    //~ FIXED
    T,
> {
    #[module(crate = "bridge_graph")] //~ ERROR crate: `crate` belongs on the type, not on a field
    //~ FIXED
    inner: T,
}

fn main() {}
