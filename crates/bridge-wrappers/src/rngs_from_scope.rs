use bridge_functional::Scope;
use bridge_graph::Rngs;
use bridge_vars::Result;

/// Random streams for a stateful module inside a functional call: one for each stream that the call has a
/// key for, starting from a fresh key of it.
///
/// # Errors
/// None that a scope causes.
#[doc(alias = "linen_rngs_dict")]
pub fn rngs_from_scope(scope: &Scope) -> Result<Rngs> {
    let keys = scope.streams().map(|stream| Ok((stream.clone(), scope.make_rng(stream)?)));
    Ok(Rngs::from_streams(keys.collect::<Result<Vec<_>>>()?))
}
