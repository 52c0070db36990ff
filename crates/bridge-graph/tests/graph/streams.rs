//! Random streams: their keys, and starting them again.

use bridge_graph::{GraphError, RngStream, Rngs, clone, merge, reseed, restart_streams, split};
use bridge_random::key;

use crate::support::{assert_error, round_trip};

fn streams() -> (Rngs, Vec<RngStream>) {
    let rngs = Rngs::new(0).with_stream("dropout", 1).with_stream("noise", 2);
    let dropouts = vec![RngStream::new("dropout", key(7)), RngStream::new("noise", key(8))];
    (rngs, dropouts)
}

#[test]
fn reseed_goes_by_name_in_order_of_paths() {
    let module = streams();
    reseed(&module, [("dropout", key(5)), ("unknown", key(6))]).unwrap();
    // `0.dropout` comes before `1.0`.
    assert_eq!(module.0.draw("dropout").unwrap(), key(5).fold_in(0).fold_in(0));
    assert_eq!(module.1[0].draw().unwrap(), key(5).fold_in(1).fold_in(0));
    // The others went on.
    assert_eq!(module.1[1].draw().unwrap(), key(8).fold_in(0));
    assert_eq!(module.0.draw("default").unwrap(), key(0).fold_in(0));
    // A count starts again.
    reseed(&module, [("noise", 3)]).unwrap();
    assert_eq!(module.0.draw("noise").unwrap(), key(3).fold_in(0).fold_in(0));
    assert_eq!(module.1[1].draw().unwrap(), key(3).fold_in(1).fold_in(0));
}

#[test]
fn what_fell_back_to_default_is_not_reseeded_by_its_own_name() {
    let forked = Rngs::new(0).stream("dropout").unwrap().fork().unwrap();
    assert_eq!(forked.name(), "default");
    reseed(&forked, [("dropout", 5)]).unwrap();
    assert_eq!(forked.draw().unwrap(), key(0).fold_in(0).fold_in(0));
}

#[test]
fn a_shared_stream_is_one() {
    let stream = bridge_graph::Shared::new(RngStream::new("dropout", key(0)));
    let module = (stream.clone(), RngStream::new("dropout", key(1)), stream);
    reseed(&module, [("dropout", 5)]).unwrap();
    assert_eq!(module.1.draw().unwrap(), key(5).fold_in(1).fold_in(0));
    assert_eq!(module.2.draw().unwrap(), key(5).fold_in(0).fold_in(0));
    assert_eq!(module.0.draw().unwrap(), key(5).fold_in(0).fold_in(1));
}

#[test]
fn sealing_ends_with_a_new_key() {
    let module = streams();
    restart_streams(&module, &[], true).unwrap();
    reseed(&module, [("noise", 3)]).unwrap();
    assert!(module.1[0].is_sealed() && !module.1[1].is_sealed());
    assert_error::<_, GraphError>(
        module.0.draw("dropout"),
        "the call gave no key for the random stream `dropout`: pass one, `[(\"dropout\", key)]`, or switch to \
         evaluation",
    );
    // What was not drawn was not counted.
    module.1[0].restart(key(7));
    assert_eq!(module.1[0].draw().unwrap(), key(7).fold_in(0));
}

#[test]
fn go_on_after_split_merge_and_clone() {
    let module = streams();
    module.0.draw("dropout").unwrap();
    module.1[0].draw().unwrap();
    let (graphdef, state) = split(&module).unwrap();
    let merged = merge(&graphdef, &state).unwrap();
    let cloned = clone(&module).unwrap();
    for other in [merged, cloned] {
        assert_eq!(other.0.draw("dropout").unwrap(), key(1).fold_in(1));
        assert_eq!(other.1[0].draw().unwrap(), key(7).fold_in(1));
    }
    round_trip(&module.1, &["0.count", "0.key", "1.count", "1.key"]);
}

#[test]
fn two_threads_never_draw_the_same_key() {
    let stream = RngStream::new("dropout", key(0));
    let mut drawn: Vec<_> = std::thread::scope(|scope| {
        let draw = || (0..100).map(|_| stream.draw().unwrap().to_string()).collect::<Vec<_>>();
        let threads = [scope.spawn(draw), scope.spawn(draw)];
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    drawn.sort();
    drawn.dedup();
    assert_eq!(drawn.len(), 200);
}
