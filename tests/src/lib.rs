//! What the cross-layer tests share.
