mod laws;
mod tools;
