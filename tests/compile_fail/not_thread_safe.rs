use std::cell::Cell;
use std::sync::atomic::AtomicU32;

use bridge_graph::StatefulModule;

#[derive(StatefulModule)]
struct Net { //~ ERROR Net: `Cell<u32>` cannot be shared between threads safely
    #[module(skip)]
    calls: Cell<u32>,
    //~ FIXED calls: AtomicU32,
}

fn main() {}
