use bridge_graph::StatefulModule;

struct Cache;
//~ FIXED #[derive(Default)] struct Cache;

#[derive(StatefulModule)]
struct Net {
    #[module(skip)]
    cache: Cache, //~ ERROR Cache: the trait bound `Cache: Default` is not satisfied
}

fn main() {}
