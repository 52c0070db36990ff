"""Writes the golden file of Optax's optimizers to a folder: parameters after steps along given gradients.

Usage: python generate_optax.py FOLDER

The parameters and the gradients of every step are exact; what the optimizers make of them is close.
"""

import encoding
from encoding import close, exact, write

import jax
import jax.numpy as jnp
import optax

STEPS = 50
# The steps after which the parameters are written down.
SHOWN = (1, 2, 10, 50)


def parameters():
    """A kernel and a bias whose elements stay away from zero, so that a relative difference says something."""
    kernel, bias = jax.random.split(jax.random.key(0))

    def away(key, shape):
        x = jax.random.normal(key, shape)
        return x + jnp.sign(x)

    return {"kernel": away(kernel, (4, 3)), "bias": away(bias, (3,))}


def gradients():
    """One for each step, along the first axis; a few are large enough to be clipped, and some elements are zero."""
    kernel, bias = jax.random.split(jax.random.key(1))
    scale = jnp.where(jnp.arange(STEPS) % 7 == 3, 4.0, 0.5)
    kernel = jax.random.normal(kernel, (STEPS, 4, 3)) * scale[:, None, None]
    bias = jax.random.normal(bias, (STEPS, 3)) * scale[:, None]
    return {"kernel": kernel.at[:, 0, 0].set(0), "bias": bias}


def groups():
    rules = {
        "kernel": optax.adamw(2e-3, weight_decay=0.1),
        "bias": optax.adamw(5e-3, b1=0.8, weight_decay=0.0),
    }
    return optax.multi_transform(rules, {"kernel": "kernel", "bias": "bias"})


OPTIMIZERS = {
    "adamw": optax.adamw(3e-3, weight_decay=0.05),
    "adamw_all_set": optax.adamw(2e-3, b1=0.8, b2=0.95, eps=1e-4, weight_decay=0.01),
    "adam": optax.adam(3e-3),
    "sgd": optax.sgd(0.01),
    "sgd_momentum": optax.sgd(0.002, momentum=0.9),
    "sgd_nesterov": optax.sgd(0.002, momentum=0.9, nesterov=True),
    "sgd_decayed": optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.002, momentum=0.9)),
    "clipped_adamw": optax.chain(optax.clip_by_global_norm(1.5), optax.adamw(3e-3, weight_decay=0.05)),
    "clipped_sgd": optax.chain(optax.clip_by_global_norm(1.5), optax.sgd(0.01)),
    "groups": groups(),
}


def optimizers():
    entries = {}
    start, along = parameters(), gradients()
    for name in start:
        entries[f"start/{name}"] = exact(start[name])
        entries[f"gradients/{name}"] = exact(along[name])
    norms = jax.vmap(optax.global_norm)(along)
    entries["norms"] = close(norms)
    assert 5 < (norms > 1.5).sum() < STEPS
    for optimizer, rule in OPTIMIZERS.items():
        params, state = start, rule.init(start)
        for step in range(1, STEPS + 1):
            gradient = {name: along[name][step - 1] for name in along}
            updates, state = rule.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
            if step in SHOWN:
                for name in params:
                    entries[f"{optimizer}/step_{step}/{name}"] = close(params[name])
    write("optimizers.json", {"entries": entries})


if __name__ == "__main__":
    encoding.main([optimizers])
