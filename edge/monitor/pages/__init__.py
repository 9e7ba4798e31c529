"""The pages: each module asks the store, builds its HTML and does what its forms ask for."""
