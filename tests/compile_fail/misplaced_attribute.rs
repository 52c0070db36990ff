use bridge_graph::StatefulModule;

#[derive(StatefulModule)]
#[module(static)] //~ ERROR static: `static` belongs on a field
//~ FIXED
struct Net<
    #[module(skip)] //~ ERROR #[module(skip)]: belongs on the struct or on one of its fields
    //~ FIXED
    T,
> {
    #[module(crate = "bridge_graph")] //~ ERROR crate: `crate` belongs on the struct, not on a field
    //~ FIXED
    inner: T,
}

fn main() {}
