"""What shapes a network while it is trained: weights that become zero, rounding that it learns to bear, a teacher.

`settings.Shaping` says which; `build.shape` puts it beside the adaptation that a training goes on with. Importing the
package imports no torch.
"""
