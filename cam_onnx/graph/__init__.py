"""The graph side: from an exported model to a converted one. It never imports the engine."""
