use bridge_graph::StatefulModule;

#[derive(StatefulModule)]
#[module(crat = "bridge_graph")] //~ ERROR crat: unknown attribute `crat`: is `crate` meant?
//~ FIXED #[module(crate = "bridge_graph")]
struct Net {
    #[module(skipp)] //~ ERROR skipp: unknown attribute `skipp`: is `skip` meant?
    //~ FIXED #[module(skip)]
    cache: Vec<u8>,
    #[module(frozen)] //~ ERROR frozen: unknown attribute `frozen`: expected `static`, `skip`, `rename = ".."` or `bound = ".."`
    //~ FIXED #[module(static)]
    size: usize,
}

fn main() {}
