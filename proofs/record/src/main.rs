//! Writes recorded runs of the attention passes as Coq files into the directory that is its one argument.

mod coq;
mod draws;
mod masks;
mod node;
mod run;
mod shape;

use std::error::Error;
use std::fs;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: record DIRECTORY")?);
    fs::create_dir_all(&directory)?;
    let (mut names, mut draws) = (Vec::new(), Vec::new());
    for shape in shape::shapes() {
        node::Node::forget_all();
        let name = format!("Run_{}", shape.name);
        let run = run::Run::new(&shape);
        fs::write(directory.join(format!("{name}.v")), coq::case(&shape, &run))?;
        draws.extend(draws::of(&shape, &run));
        names.push(name);
    }
    fs::write(directory.join("Draws_recorded.v"), draws::file(draws))?;
    fs::write(directory.join("Masks_recorded.v"), masks::file())?;
    fs::write(directory.join("Runs.v"), coq::all(&names))?;
    Ok(())
}
