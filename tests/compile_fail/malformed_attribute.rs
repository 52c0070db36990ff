use bridge_graph::StatefulModule;

#[derive(StatefulModule)]
#[module(crate = "not a path")] //~ ERROR "not a path": not the path of a crate, such as "::bridge_graph"
//~ FIXED #[module(crate = "::bridge_graph")]
struct Net {
    #[module] //~ ERROR module: write `static`, `skip`, `rename = ".."` or `bound = ".."` in it: `#[module(..)]`
    //~ FIXED
    a: usize,
    #[module()] //~ ERROR module(): write `static`, `skip`, `rename = ".."` or `bound = ".."` in it: `#[module(..)]`
    //~ FIXED
    b: usize,
    #[module = "static"] //~ ERROR module = "static": write `static`, `skip`, `rename = ".."` or `bound = ".."` in it
    //~ FIXED #[module(static)]
    c: usize,
    #[module(static = true)] //~ ERROR =: `static` takes no value
    //~ FIXED #[module(static)]
    d: usize,
    #[module(rename)] //~ ERROR rename: `rename` takes a text: `rename = ".."`
    //~ FIXED #[module(rename = "E")]
    e: usize,
    #[module(rename = 3)] //~ ERROR 3: `rename` takes a text: `rename = ".."`
    //~ FIXED #[module(rename = "3")]
    f: usize,
    #[module(rename = "")] //~ ERROR "": a name can not be empty
    //~ FIXED #[module(rename = "g")]
    g: usize,
}

fn main() {}
