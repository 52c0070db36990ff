//! `#[derive(StatefulModule)]`.
