mod overload;
mod sim;
