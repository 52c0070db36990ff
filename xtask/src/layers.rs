//! `cargo xtask layers`: dependencies between the crates point down.

use cargo_metadata::{Metadata, MetadataCommand, Package};

use crate::help::{self, Outcome};
use crate::process;

const HELP: &str = "\
Check that dependencies between the crates point down, and that none of them uses candle-nn.

Usage: cargo xtask layers [--help]
";

/// Each crate of `crates/` with those it may depend on, from the bottom up.
const LAYERS: &[(&str, &[&str])] = &[
    ("bridge-random", &[]),
    ("bridge-derive", &[]),
    ("bridge-ops", &["bridge-random"]),
    ("bridge-vars", &["bridge-ops", "bridge-random"]),
    ("bridge-graph", &["bridge-derive", "bridge-vars", "bridge-ops", "bridge-random"]),
    ("bridge-stateful", &["bridge-graph", "bridge-vars", "bridge-ops", "bridge-random"]),
    ("bridge-functional", &["bridge-graph", "bridge-vars", "bridge-ops", "bridge-random"]),
    (
        "bridge-wrappers",
        &[
            "bridge-stateful",
            "bridge-functional",
            "bridge-graph",
            "bridge-vars",
            "bridge-ops",
            "bridge-random",
        ],
    ),
    ("bridge-train", &["bridge-graph", "bridge-vars", "bridge-ops", "bridge-random"]),
    (
        "candle-bridge",
        &[
            "bridge-wrappers",
            "bridge-stateful",
            "bridge-functional",
            "bridge-train",
            "bridge-graph",
            "bridge-derive",
            "bridge-vars",
            "bridge-ops",
            "bridge-random",
        ],
    ),
];

/// Its fused operators cut gradients silently, so no layer may lean on it.
const FORBIDDEN: &str = "candle-nn";

pub(crate) fn command(arguments: lexopt::Parser) -> Outcome {
    if help::parse(arguments, None, false, HELP)?.is_none() {
        return Ok(());
    }
    let metadata = MetadataCommand::new()
        .current_dir(process::root())
        .no_deps()
        .exec()
        .map_err(|error| help::failed(format!("cargo metadata: {error}")))?;
    let violations = violations(&metadata, LAYERS);
    if violations.is_empty() {
        println!("{} crates, every dependency points down", LAYERS.len());
        return Ok(());
    }
    Err(help::failed(format!("dependencies against the layers:\n  {}", violations.join("\n  "))))
}

/// What is against the table: dependencies of any kind that are not allowed, crates that it lacks or that are gone.
fn violations(metadata: &Metadata, layers: &[(&str, &[&str])]) -> Vec<String> {
    let members = metadata.workspace_packages();
    let directory = metadata.workspace_root.join("crates");
    let crates: Vec<&Package> =
        members.iter().copied().filter(|package| package.manifest_path.starts_with(&directory)).collect();
    let mut violations = Vec::new();
    for package in &crates {
        let name = package.name.as_str();
        let Some((_, allowed)) = layers.iter().find(|(layer, _)| *layer == name) else {
            violations.push(format!("{name} is not in the table of layers in xtask"));
            continue;
        };
        for dependency in &package.dependencies {
            let target = dependency.name.as_str();
            let ours = members.iter().any(|member| member.name.as_str() == target);
            if target == FORBIDDEN || (ours && !allowed.contains(&target)) {
                let kind = dependency.kind;
                violations.push(format!("{name} -> {target} ({kind} dependency) is not allowed"));
            }
        }
    }
    for (layer, _) in layers {
        if !crates.iter().any(|package| package.name.as_str() == *layer) {
            violations.push(format!("{layer} is in the table of layers in xtask, but not in crates/"));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const TABLE: &[(&str, &[&str])] = &[("low", &[]), ("left", &["low"]), ("right", &["low"])];

    fn package(path: &str, dependencies: &[(&str, Value)]) -> Value {
        let name = path.rsplit('/').next().unwrap();
        let dependencies: Vec<_> = dependencies
            .iter()
            .map(|(name, kind)| {
                json!({
                    "name": name, "req": "*", "kind": kind, "optional": false, "uses_default_features": true,
                    "features": [], "target": null, "rename": null, "registry": null, "source": null,
                })
            })
            .collect();
        json!({
            "name": name, "version": "0.1.0", "id": name, "source": null, "dependencies": dependencies,
            "targets": [], "features": {}, "manifest_path": format!("/project/{path}/Cargo.toml"),
        })
    }

    /// Low, left and right as in `TABLE`, and tools outside `crates/`, with more dependencies of some.
    fn check(more: &[(&str, &str, Value)], packages: &[&str], expected: &[&str]) {
        let mut all = vec![
            ("crates/low", vec![]),
            ("crates/left", vec![("low", Value::Null)]),
            ("crates/right", vec![("low", Value::Null), ("serde", Value::Null)]),
            ("tools", vec![("left", Value::Null), ("candle-nn", Value::Null)]),
        ];
        all.extend(packages.iter().map(|path| (*path, vec![])));
        for (from, to, kind) in more {
            let (_, dependencies) = all.iter_mut().find(|(path, _)| path == from).unwrap();
            dependencies.push((to, kind.clone()));
        }
        let packages: Vec<_> = all.iter().map(|(path, dependencies)| package(path, dependencies)).collect();
        let members: Vec<_> = packages.iter().map(|package| package["name"].clone()).collect();
        let metadata = json!({
            "packages": packages, "workspace_members": members, "workspace_root": "/project",
            "target_directory": "/project/target", "version": 1, "resolve": null, "metadata": null,
        });
        let metadata = MetadataCommand::parse(metadata.to_string()).unwrap();
        assert_eq!(violations(&metadata, TABLE), expected);
    }

    #[test]
    fn edges_that_point_down_pass() {
        check(&[], &[], &[]);
        check(&[("crates/left", "low", json!("dev"))], &[], &[]);
    }

    #[test]
    fn edges_that_point_up_or_sideways_are_reported_with_both_names() {
        let up = "low -> left (normal dependency) is not allowed";
        check(&[("crates/low", "left", Value::Null)], &[], &[up]);
        let sideways = "left -> right (build dependency) is not allowed";
        check(&[("crates/left", "right", json!("build"))], &[], &[sideways]);
        let dev = "low -> right (dev dependency) is not allowed";
        check(&[("crates/low", "right", json!("dev"))], &[], &[dev]);
        let tools = "left -> tools (dev dependency) is not allowed";
        check(&[("crates/left", "tools", json!("dev"))], &[], &[tools]);
    }

    #[test]
    fn candle_nn_is_nobodys_dependency() {
        let expected = "right -> candle-nn (dev dependency) is not allowed";
        check(&[("crates/right", "candle-nn", json!("dev"))], &[], &[expected]);
    }

    #[test]
    fn the_table_and_the_crates_agree() {
        check(&[], &["crates/new"], &["new is not in the table of layers in xtask"]);
        let gone: &[(&str, &[&str])] = &[("gone", &[])];
        let metadata = json!({
            "packages": [], "workspace_members": [], "workspace_root": "/project",
            "target_directory": "/project/target", "version": 1, "resolve": null, "metadata": null,
        });
        let metadata = MetadataCommand::parse(metadata.to_string()).unwrap();
        assert_eq!(
            violations(&metadata, gone),
            ["gone is in the table of layers in xtask, but not in crates/"]
        );
    }

    #[test]
    fn the_table_is_in_order_from_the_bottom_up() {
        for (index, (name, allowed)) in LAYERS.iter().enumerate() {
            for target in *allowed {
                let below = LAYERS[..index].iter().any(|(lower, _)| lower == target);
                assert!(below, "{name} may depend on {target}, which is not below it");
            }
        }
    }
}
