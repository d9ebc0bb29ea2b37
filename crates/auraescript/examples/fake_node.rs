//! Serves a fake node until standard input ends, and prints its client configuration's path: for
//! trying scripts where there is no node.

#![expect(dead_code, reason = "the tests look at more than this program does")]

#[path = "../tests/support/fake_node.rs"]
mod fake_node;

fn main() -> std::io::Result<()> {
    let node = fake_node::FakeNode::start();
    println!("{}", node.config().display());
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}
