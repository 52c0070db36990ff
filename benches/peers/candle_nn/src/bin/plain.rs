//! candle-nn as it is published.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    candle_nn_peer::run()
}
