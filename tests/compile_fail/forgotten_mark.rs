use bridge_graph::StatefulModule;
use bridge_vars::Param;

#[derive(StatefulModule)]
struct Tokenizer {
    embedding: Param,
    vocabulary: std::path::PathBuf, //~ ERROR std::path::PathBuf: `PathBuf` can not be a field of a module
    //~ FIXED #[module(static)] vocabulary: std::path::PathBuf,
}

#[derive(StatefulModule)]
struct Model(Vec<Tokenizer>);

fn main() {}
