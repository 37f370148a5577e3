//! The `directlb` controller binary.
fn main() {}
