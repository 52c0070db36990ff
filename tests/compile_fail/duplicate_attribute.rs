use bridge_graph::StatefulModule;

#[derive(StatefulModule)]
#[module(rename = "Dense", rename = "Linear")] //~ ERROR rename: `rename` stands here twice: remove one
//~ FIXED #[module(rename = "Dense")]
struct Net {
    #[module(static)]
    #[module(static)] //~ ERROR static: `static` stands here twice: remove one
    //~ FIXED
    size: usize,
}

fn main() {}
