"""Where preprocessing and labels are said: in a model's metadata and in files beside it, as other projects write them.

One function a source (`order` has them in the order of trust); what nobody says is guessed, and called a guess
(`gather`).
"""
